"""Many runs, one finding: a study file becomes cells, each an ordinary run, and the runs become a table."""
