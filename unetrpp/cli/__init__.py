"""The commands that belong to no room, one file each; planners, trainers and dataset_conversion hold their own."""
