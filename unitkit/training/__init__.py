"""What a training computes: the plan of its steps, a step, and how it is compiled."""
