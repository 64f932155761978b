"""What every package stands on: errors, files and records, worker processes, random numbers, devices, commands."""
