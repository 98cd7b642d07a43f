"""Measures of heatmaps: against masks, against the network's own answers, against other classes and other weights."""

from __future__ import annotations

from interpnet.evaluate._checkerboard import checkerboard as checkerboard
from interpnet.evaluate._context import ContextSwap as ContextSwap
from interpnet.evaluate._context import context_swap as context_swap
from interpnet.evaluate._context import swapped_context as swapped_context
from interpnet.evaluate._localisation import iou_auc as iou_auc
from interpnet.evaluate._localisation import pointing_game as pointing_game
from interpnet.evaluate._perturbation import deletion as deletion
from interpnet.evaluate._perturbation import insertion as insertion
from interpnet.evaluate._randomisation import ParameterRandomisation as ParameterRandomisation
from interpnet.evaluate._randomisation import parameter_randomisation as parameter_randomisation
from interpnet.evaluate._score import Measure as Measure
from interpnet.evaluate._score import Score as Score
from interpnet.evaluate._score import measures as measures
from interpnet.evaluate._sensitivity import ClassSensitivity as ClassSensitivity
from interpnet.evaluate._sensitivity import class_sensitivity as class_sensitivity
from interpnet.evaluate._similarity import spearman as spearman
from interpnet.evaluate._similarity import ssim as ssim
