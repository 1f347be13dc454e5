"""What publishers ship, and how it is read: layouts, containers, traps. Nothing here is used while training."""
