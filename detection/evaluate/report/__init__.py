"""What a person looks at after an evaluation or a training: plots, the worst images, and one page that shows them."""
