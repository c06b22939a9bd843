"""Running a detector where the work is: on a cluster."""
