"""What all other packages use: errors, files and records, worker processes, random numbers, devices, commands."""
