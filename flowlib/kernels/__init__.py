"""A step of flow, in torch and compiled; a whole flow's loss; descent on many models at once; the loop of training."""
