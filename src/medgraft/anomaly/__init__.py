"""Images unlike normal ones: learnt from normal images alone, scored, and shown where."""
