"""The rules of planning, one a file: each decides a part of the plans from measurements, and says why."""
