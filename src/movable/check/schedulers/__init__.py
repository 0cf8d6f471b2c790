"""Ways through the schedules of a program: one class, one file each."""
