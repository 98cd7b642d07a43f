"""Images with labels: by name, from folders, or from any torch Dataset."""

from interpnet.datasets._data import ImageData as ImageData
from interpnet.datasets._data import stack_images as stack_images
from interpnet.datasets._loader import Batch as Batch
from interpnet.datasets._loader import BatchLoader as BatchLoader
from interpnet.datasets._loader import Skipped as Skipped
from interpnet.datasets._loader import make_loader as make_loader
from interpnet.datasets._pixels import BadImageError as BadImageError
from interpnet.datasets._registry import dataset_names as dataset_names
from interpnet.datasets._registry import load_dataset as load_dataset
