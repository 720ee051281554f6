"""Boxes from data to report: the choices, the parts, the job, a trained run opened, and its scores elsewhere."""
