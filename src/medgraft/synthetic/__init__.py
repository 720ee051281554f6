"""What images that were drawn are put to: sets to share, audits, and more."""
