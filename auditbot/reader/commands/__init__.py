"""What compliance officers type: one module for each subject."""
