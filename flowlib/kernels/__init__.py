"""A step of flow, in torch and compiled; a whole flow's loss; descent on many parameters, and many models, at once."""
