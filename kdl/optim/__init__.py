"""Optimisers and learning-rate schedules, under the names of torch.optim."""
from kdl.optim import lr_scheduler
from kdl.optim.adagrad import Adadelta, Adagrad, RMSprop
from kdl.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from kdl.optim.optimizer import Optimizer
from kdl.optim.sgd import SGD
