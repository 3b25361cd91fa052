"""The catalogue of laws: ``laws.chinchilla``, ``laws.get(name)``, ``laws.table()``."""

from jaxscale.laws._registry import (
    get as get,
    made_to_order as made_to_order,
    names as names,
    table as table,
)
from jaxscale.laws.best_of_n import (
    beta_binomial as beta_binomial,
    beta_coverage as beta_coverage,
    spike_beta_binomial as spike_beta_binomial,
    spike_beta_coverage as spike_beta_coverage,
)
from jaxscale.laws.chinchilla import (
    brandfonbrener as brandfonbrener,
    chinchilla as chinchilla,
    coupled_power as coupled_power,
)
from jaxscale.laws.data_constrained import (
    chinchilla_tied as chinchilla_tied,
    ensemble as ensemble,
    goyal_utility as goyal_utility,
    muennighoff as muennighoff,
    muennighoff_repeats as muennighoff_repeats,
    muennighoff_tied as muennighoff_tied,
)
from jaxscale.laws.dense import (
    chinchilla_nonembedding as chinchilla_nonembedding,
    encoder_decoder as encoder_decoder,
    farseer as farseer,
    rosenfeld as rosenfeld,
)
from jaxscale.laws.distillation import busbridge_distillation as busbridge_distillation
from jaxscale.laws.downstream import (
    capability_sigmoid as capability_sigmoid,
    composed_accuracy as composed_accuracy,
    log_score as log_score,
    log_sigmoid_accuracy as log_sigmoid_accuracy,
    pass_rate as pass_rate,
    rectified_finetuning as rectified_finetuning,
    sigmoid_accuracy as sigmoid_accuracy,
    skill_accuracy as skill_accuracy,
    u_shaped as u_shaped,
    vanilla_finetuning as vanilla_finetuning,
)
from jaxscale.laws.hyperparameter import (
    adamw_timescale as adamw_timescale,
    critical_batch_examples as critical_batch_examples,
    critical_batch_steps as critical_batch_steps,
    optimal_norm_lr as optimal_norm_lr,
    scaling_rule as scaling_rule,
    step_lr as step_lr,
)
from jaxscale.laws.inference import (
    coverage_power as coverage_power,
    coverage_saturating as coverage_saturating,
)
from jaxscale.laws.kaplan import (
    critical_batch as critical_batch,
    kaplan_nbs as kaplan_nbs,
    kaplan_nd as kaplan_nd,
    kaplan_ns as kaplan_ns,
)
from jaxscale.laws.learning_curve import (
    bnsl as bnsl,
    bnsl_1 as bnsl_1,
    bnsl_2 as bnsl_2,
    saturating_power_law as saturating_power_law,
    shifted_power_law as shifted_power_law,
)
from jaxscale.laws.mixture import (
    data_mixing as data_mixing,
    data_mixing_5 as data_mixing_5,
    dcpt as dcpt,
    implicit_mixing as implicit_mixing,
    implicit_mixing_3 as implicit_mixing_3,
    shukor_additive as shukor_additive,
    shukor_additive_3 as shukor_additive_3,
    shukor_joint as shukor_joint,
    shukor_joint_2 as shukor_joint_2,
)
from jaxscale.laws.moe import (
    abnar_sparsity as abnar_sparsity,
    clark_bilinear as clark_bilinear,
    clark_routed as clark_routed,
    clark_separable as clark_separable,
    frantar_sparse as frantar_sparse,
    krajewski_moe as krajewski_moe,
    ludziejewski_joint_moe as ludziejewski_joint_moe,
)
from jaxscale.laws.overtraining import (
    gadre_error as gadre_error,
    gadre_overtrain as gadre_overtrain,
)
from jaxscale.laws.parallel import parscale as parscale
from jaxscale.laws.power import power_law as power_law, power_law_offset as power_law_offset
from jaxscale.laws.precision import (
    kumar_precision as kumar_precision,
    kumar_ptq as kumar_ptq,
    panferov_capacity as panferov_capacity,
    sun_fp as sun_fp,
)
from jaxscale.laws.reinforcement import data_to_return as data_to_return
from jaxscale.laws.schedule_loss import annealing as annealing, multi_power as multi_power
from jaxscale.laws.shape import gemstones as gemstones, gemstones_shape as gemstones_shape
from jaxscale.laws.theory import quanta as quanta
from jaxscale.laws.transfer import (
    loss_to_loss as loss_to_loss,
    transferred_data as transferred_data,
)
from jaxscale.laws.vision import nezhurina as nezhurina, nezhurina_floor as nezhurina_floor
from jaxscale.laws.vocabulary import tao_vocabulary as tao_vocabulary
