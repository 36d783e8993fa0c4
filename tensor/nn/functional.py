"""Layers' computations as functions."""

from tensor.ops.activation import *
from tensor.ops.conv import *
from tensor.ops.loss import *
from tensor.ops.normalization import *
