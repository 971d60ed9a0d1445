"""What executors and components compute with: their context, the cells of tables, and messages between parties."""
