"""What was run: executions, what each party did in each attempt, every event they sent; and runs of pipelines."""

from executions.models.approval import Approval, ApprovalState
from executions.models.beat import Beat
from executions.models.dead_letter import DeadLetter
from executions.models.event import EventPiece, ExecutionEvent
from executions.models.execution import Execution, NotCancellable, StateChange
from executions.models.hour import Hour
from executions.models.label import Label, check_labels, check_terms
from executions.models.log import LogChunk
from executions.models.notification import Condition, Delivery, Happening, Notification
from executions.models.party_run import PartyRun, PortLease
from executions.models.pipeline_run import NodeRun, PipelineChange, PipelineRun, Tick
from executions.models.preflight import PartyCheck, Preflight
from executions.models.total import Total
from executions.models.webhook import PostStatus, Signature, Webhook, WebhookDelivery

__all__ = [
    "Approval", "ApprovalState", "Beat", "Condition", "DeadLetter", "Delivery", "EventPiece", "Execution",
    "ExecutionEvent", "Happening", "Hour", "Label", "LogChunk", "NodeRun", "NotCancellable", "Notification",
    "PartyCheck", "PartyRun", "PipelineChange", "PipelineRun", "PortLease", "PostStatus", "Preflight", "Signature",
    "StateChange", "Tick", "Total", "Webhook", "WebhookDelivery", "check_labels", "check_terms",
]  # fmt: skip
