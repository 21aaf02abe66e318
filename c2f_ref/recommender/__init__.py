"""The estimator people expect. In reading order: `inputs`, `warm`, `estimator`.

Loading this room loads scikit-learn, whose base class it has; nothing loads this room but those who ask for it.
"""

from .estimator import C2FRecommender

__all__ = ["C2FRecommender"]
