"""What a network costs: measured on the device it is to run on."""
