"""TensorBoard's own backend over a log folder, asked as its pages ask it."""

import json

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.image.images_plugin import ImagesPlugin
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
from werkzeug.test import Client


class Backend:
    """The HParams, custom scalars and images plugins on one data provider."""

    def __init__(self, folder):
        multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0, "images": 0})
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(folder))
        plugins = {}
        self._context = TBContext(
            data_provider=provider,
            logdir=str(folder),
            multiplexer=multiplexer,
            plugin_name_to_instance=plugins,
        )
        plugins["scalars"] = ScalarsPlugin(self._context)  # custom scalars asks it for the curves

    def ask(self, plugin, route, body=None, **query):
        """The decoded answer of one of a plugin's routes."""
        client = Client(plugin(self._context).get_plugin_apps()[route])
        answer = client.post("/", json=body) if body is not None else client.get("/", query_string=query)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return json.loads(answer.get_data())

    def experiment(self):
        return self.ask(HParamsPlugin, "/experiment", {})

    def sessions(self):
        """Trial -> (hparams, {metric: last value}, status), as the table of HParams shows them."""
        metrics = [{"metric": info["name"]} for info in self.experiment()["metricInfos"]]
        body = {"colParams": metrics, "startIndex": 0, "sliceSize": 1000}
        body["allowedStatuses"] = [f"STATUS_{s}" for s in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
        found = {}
        for group in self.ask(HParamsPlugin, "/session_groups", body)["sessionGroups"]:
            values = {v["name"]["tag"]: v["value"] for v in group.get("metricValues", []) if not v["name"].get("group")}
            (session,) = group["sessions"]
            found[group["name"]] = (group["hparams"], values, session.get("status", "STATUS_UNKNOWN"))
        return found

    def layout(self):
        return self.ask(CustomScalarsPlugin, "/layout")

    def custom_scalars(self, run, tag):
        return self.ask(CustomScalarsPlugin, "/scalars", tag=tag, run=run)

    def images(self):
        return self.ask(ImagesPlugin, "/tags")
