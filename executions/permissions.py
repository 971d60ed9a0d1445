"""The permissions to view what was run, to run something, and to cancel it: for the admin, the API and schedules.

They are Django's permissions on executions. Pipeline runs and pre-flight checks have none of their own.
"""

VIEW = "executions.view_execution"
RUN = "executions.add_execution"
CANCEL = "executions.change_execution"
