"""Images -> transmission, drift, edges, thickness, regions, change maps."""
