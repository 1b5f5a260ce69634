"""What others want to know of clients, in their own formats. Each module needs the extra of its name."""
