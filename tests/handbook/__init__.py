"""What it takes to run the documentation: its pages read, and a shell in which their commands are cheap."""
