"""What the page can do. The tools and the server both import this module, so it imports neither of them."""

from pydantic import BaseModel

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer


class TaskNumber(BaseModel):
    task_id: int


# Neither needs an answer, so the model does not run for them.
refresh_tasks = ClientTool("refresh_tasks", result=None)
highlight_task = ClientTool("highlight_task", TaskNumber, result=None)

sequencer = ClientToolSequencer([refresh_tasks, highlight_task], receipts=True)
converter = ClientToolConverter(sequencer)
