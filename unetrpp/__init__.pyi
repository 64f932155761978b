"""The public names for type checkers; `__init__.py` imports them lazily from the same modules."""

from unetrpp.core.errors import UserError as UserError
from unetrpp.dataset_conversion.conversion import convert_dataset as convert_dataset
from unetrpp.dataset_conversion.folder import convert_folder as convert_folder
from unetrpp.evaluation.calibration import calibrate_model as calibrate_model
from unetrpp.evaluation.cross_validation import evaluate_model as evaluate_model
from unetrpp.evaluation.evaluate import evaluate as evaluate
from unetrpp.evaluation.find_best import find_best as find_best
from unetrpp.evaluation.model_comparison import compare_models as compare_models
from unetrpp.evaluation.operating_points import choose_thresholds as choose_thresholds
from unetrpp.export.model_zip import export_model as export_model
from unetrpp.export.model_zip import import_model as import_model
from unetrpp.export.nnunet.models import import_nnunet as import_nnunet
from unetrpp.export.onnx import export_onnx as export_onnx
from unetrpp.export.released import import_released as import_released
from unetrpp.inference.ensemble import Ensemble as Ensemble
from unetrpp.inference.predict import predict as predict
from unetrpp.inference.predictor import Predictor as Predictor
from unetrpp.inference.segmentation import Segmentation as Segmentation
from unetrpp.io.geometry import Geometry as Geometry
from unetrpp.io.images import Volume as Volume
from unetrpp.io.images import read_image as read_image
from unetrpp.model.folder import ModelFolder as ModelFolder
from unetrpp.networks.build import build_network as build_network
from unetrpp.planners.pipeline import plan_and_preprocess as plan_and_preprocess
from unetrpp.planners.planner import Planner as Planner
from unetrpp.planners.report.write import write_plan_report as write_plan_report
from unetrpp.plans.plans import read_plans as read_plans
from unetrpp.report.attention_report import write_attention_report as write_attention_report
from unetrpp.report.model_report import write_report as write_report
from unetrpp.report.prediction_report import write_prediction_report as write_prediction_report
from unetrpp.trainers.folds import train as train
from unetrpp.trainers.trainer import Trainer as Trainer

__version__: str
__all__: list[str]
