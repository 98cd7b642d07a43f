from .auditing.call import audit as audit
from .auditing.merge import merge_runs as merge_runs
from .auditing.result import Audit as Audit
from .auditing.result import Report as Report
from .auditing.result import load_run as load_run
from .comparing.comparison import Comparison as Comparison
from .comparing.comparison import compare as compare
from .tracking.log import log as log
