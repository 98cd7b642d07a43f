"""The disconnected grid: a network that cannot see beyond a cell, so that any relevance beyond it is a mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpnet.attribution import target_site
from interpnet.engine import Instrument, Layers, Output, Site, find_sites, instrument, logits_of, unwrap
from interpnet.evaluate._grid import GridPointing, drawn_grids, played
from interpnet.support.checks import check_kinds

ExplainClass = Callable[[nn.Module, Tensor, Tensor], Tensor]


def disconnected_pointing_game(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[int],
    explain: ExplainClass,
    *,
    side: int = 2,
    grids: int = 50,
    confidence: float = 0.9,
    layer: Layers | None = None,
    max_batch: int = 32,
    seed: int = 0,
    output: Output | None = None,
    constant: str = "error",
) -> GridPointing:
    r"""Return the share of each map's positive values that lies on the only cell of a grid that its score can see.

    Grids are those of :func:`interpnet.evaluate.grid_pointing_game`. The network runs on each cell alone, with outputs
    of its own for every cell, so that nothing outside a cell can have an influence on its outputs: the value is 1
    unless the method is wrong. The cells' maps lie side by side for methods that weigh the maps of a layer.

    Parameters
    ----------
    model : nn.Module
        Left as it was. Its images may have one size: it never sees a whole grid.
    images : Tensor (N, C, H, W)
        As the model wants them; moved to the model's device.
    labels : (N,) class numbers
    explain : function
        ``explain(network, grids, target) -> (G, height, width)`` with the disconnected network, whose output
        ``cell * classes + k`` is class k of that cell, and ``target`` (G,) of these outputs; raw maps of the grids'
        size: ``lambda m, x, t: attribute(m, x, t, "gradcam")``. It runs once a cell.
    side, grids, confidence, max_batch, seed, output, constant
        As in :func:`interpnet.evaluate.grid_pointing_game`.
    layer : str, module, or iterable of them, optional
        Which layer a method of the last layer's maps takes; by default the one that Grad-CAM takes. Maps of the other
        layers lie side by side as well, as far as the trace follows cells; ``network.NAME`` names them to a method.

    Returns
    -------
    GridPointing

    Raises
    ------
    DataError
        As :func:`interpnet.evaluate.grid_pointing_game`.
    InterpNetError
        Labels or options that do not exist.
    LayerError
        ``layer`` names none or several, or the network has no layer with a 2-D map.

    References
    ----------
    Rao, Boehle & Schiele 2022, Towards Better Understanding Attribution Methods (DiFull).

    Examples
    --------
    >>> from interpnet.attribution import attribute
    >>> net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    >>> _ = net.eval()
    >>> _ = net[0].weight.data.copy_(torch.eye(4).view(4, 4, 1, 1)), net[4].weight.data.copy_(40 * torch.eye(4))
    >>> images = torch.eye(4).view(4, 4, 1, 1).expand(4, 4, 2, 2)
    >>> def shares(method):
    ...     found = disconnected_pointing_game(
    ...         net, images, [0, 1, 2, 3], lambda m, x, t: attribute(m, x, t, method), grids=2, constant="zero"
    ...     )
    ...     return round(found.score.mean, 6)
    >>> shares("gradient"), shares("center")
    (1.0, 0.25)
    """
    check_kinds(disconnected_pointing_game, locals(), but=["labels", "layer"])
    model = unwrap(model)
    with torch.inference_mode(False):
        found = drawn_grids(model, images, labels, side, grids, confidence, max_batch, seed, output)
        cells = _apart(found.images, int(side))
        site = target_site(find_sites(model, cells, output=output), layer)
        alone = Disconnected(model, site, int(side), output)

        def made(cell: int) -> Tensor:
            return explain(alone, found.images.clone(), cell * found.outputs + found.classes[:, cell])

        return played("disconnected_pointing_game", found, side, made, constant)


class Disconnected(nn.Module):
    """A network that runs on each cell of a grid alone and has outputs of its own for every cell.

    Output ``cell * classes + k`` is class k of that cell. The cells' maps of one layer lie side by side in one tensor,
    as if the network had run on the grid, and pass through a convolution that leaves them as they are: a method that
    looks for the last convolution finds them. From there on every cell is alone again.
    """

    def __init__(self, network: nn.Module, site: Site, side: int, output: Output | None = None) -> None:
        super().__init__()
        self.training = False
        self.network = network
        self._site = site
        self._side = side
        self._output = output

    def forward(self, grids: Tensor) -> Tensor:
        """Return logits (G, cells * classes) of grids (G, C, side * H, side * W)."""
        cells = _apart(grids, self._side)
        with instrument(self.network, Instrument(edits={self._site.name: self._side_by_side})):
            logits = logits_of(self.network(cells), len(cells), self._output)
        return logits.reshape(len(grids), -1)

    def _side_by_side(self, out: Tensor) -> Tensor:
        axis = self._site.axis or 1
        maps = _together(out.movedim(axis, 1), self._side)
        same = F.conv2d(maps, maps.new_ones(maps.shape[1], 1, 1, 1), groups=maps.shape[1])
        return _apart(same, self._side).movedim(1, axis)


def _apart(grids: Tensor, side: int) -> Tensor:
    """Return the cells (G * cells, C, H, W) of grids (G, C, side * H, side * W), row by row."""
    count, colours, height, width = grids.shape
    cells = grids.reshape(count, colours, side, height // side, side, width // side)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, colours, height // side, width // side)


def _together(cells: Tensor, side: int) -> Tensor:
    """Return the grids (G, C, side * H, side * W) of cells (G * cells, C, H, W)."""
    _, colours, height, width = cells.shape
    grids = cells.reshape(-1, side, side, colours, height, width).permute(0, 3, 1, 4, 2, 5)
    return grids.reshape(-1, colours, side * height, side * width)
