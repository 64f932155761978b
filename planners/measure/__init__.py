"""What is measured in the dataset: classes, structures, occupancy, groups of cases."""
