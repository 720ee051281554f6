"""Label maps: which pixels and voxels belong to what, from the plan to the report."""
