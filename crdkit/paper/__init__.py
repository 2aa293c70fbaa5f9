"""What belongs to the paper: its numbers, its checkpoints, its experiments again."""
