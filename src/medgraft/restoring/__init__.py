"""Files without their noise, and what that is worth: the verb `denoise`."""
