"""The steps of a writing done by others than the command's own processes: datatrove on several nodes, Ray, SLURM."""
