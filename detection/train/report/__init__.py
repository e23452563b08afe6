"""What a person looks at after a training or an evaluation: plots and one page."""
