"""What ``make bench`` measures: the transfer engine beside azcopy, rclone, the storage SDK, and a floor in C."""
