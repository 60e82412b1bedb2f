"""What a bundle costs: measured on this host, each configuration in a process of its own."""
