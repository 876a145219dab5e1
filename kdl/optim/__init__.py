"""Optimisers and learning-rate schedules, under the names of torch.optim."""
from kdl.optim import lr_scheduler, swa_utils
from kdl.optim.adagrad import Adadelta, Adagrad, RMSprop
from kdl.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from kdl.optim.lbfgs import LBFGS
from kdl.optim.optimizer import Optimizer
from kdl.optim.rprop import ASGD, Rprop
from kdl.optim.sgd import SGD
