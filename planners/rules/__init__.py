"""The rules of planning, one per file: each decides a part of the plans from measurements, and records why."""
