"""What the extension is measured against: the same work done by other means."""
