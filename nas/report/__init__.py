"""What people see of a search: live views, tables."""
