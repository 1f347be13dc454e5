"""The help of `train`, one screen for each subcommand, without importing Lightning."""

from collections.abc import Sequence

HELP = ("-h", "--help")
ALL = "all"  # `fit --help all`: every option
VERBS = ("fit", "validate", "test", "predict")
_EXPERIMENT = "-c configs/experiments/diffpose_synthetic_frame.yaml"

OVERVIEW = """usage: {train} {{fit,validate,test,predict}} -c FILE [options]

Train, validate, test and predict with any method on any data. A run is the folder runs/<name>.

  fit         train a method, or resume a training        {train} fit --help
  validate    measure a checkpoint on validation data     {train} validate --help
  test        measure a checkpoint on test data           {train} test --help
  predict     write a checkpoint's answers to test data   {train} predict --help

examples:
  {train} fit {experiment}
  {train} fit {experiment} --ckpt_path auto        (start, or resume)
  {train} test {experiment} --ckpt_path best
  {train} fit -c ... -c configs/loggers/wandb.yaml --name my_run --trainer.devices 4 --model.width 64
  {train} fit -c ... --data configs/data/cmu_frame.yaml --name the_same_on_other_data
  {train} test -c runs/my_run/config.yaml --ckpt_path best         (a run with options of its own)

Settings come from configs/base.yaml, then each -c file, then the options; the last one wins.
"""

_ABOUT = {
    "fit": "Train a method. The run is the folder runs/NAME: configuration, curve, checkpoints and record.",
    "validate": "Measure a checkpoint on the validation data of its run.",
    "test": "Measure a checkpoint on test data; the numbers are in runs/NAME/test.json, for `compare`.",
    "predict": "Write a checkpoint's answers to test data to runs/NAME; for files of your own use `predict`.",
}

_CHECKPOINT = {
    "fit": "auto: start or resume; last: resume; FILE: start from its state",
    "other": "best or last of the run, a FILE, or a model that ships",
}

_TRAINING = """
  --trainer.max_epochs N              length of the training
  --trainer.precision bf16-mixed      less time and memory on a GPU
  --trainer.accumulate_grad_batches N larger batches without more memory
  --trainer.fast_dev_run true         one batch of everything, to see whether it runs; nothing is kept
  --saving.minutes N                  between two saves within an epoch (default 10; 0 for none)
  --finite.skip N                     steps in a row with a loss that is not finite (default 0: stop)
  --pictures.people N                 drawn at each validation (default 4)
  -c configs/loggers/wandb.yaml       log to W&B as well"""

_PAGE = """usage: {train} {verb} -c FILE [-c FILE ...]{needed} [options]

{about}

  -c FILE                             an experiment, or runs/NAME/config.yaml; further files change it
  --name NAME                         of the run (default: that of the experiment)
  --ckpt_path WHICH                   {checkpoint}
  --model FILE | CLASS                another method, such as configs/methods/context_small.yaml
  --data FILE | CLASS                 other data, such as configs/data/cmu_frame.yaml
  --model.OPTION, --data.OPTION       of the method and of the data, such as --model.width 64
  --seed_everything N                 of all random numbers (default 0)
  --trainer.accelerator cpu           or gpu (default: what is there)
  --trainer.devices N                 processes or GPUs; with --trainer.strategy ddp{training}

examples:
{examples}

the rest:
  {train} {verb} --help all                                       every option
  {train} {verb} --model.help methods.diffpose.DiffPose           options of a method
  {train} {verb} --data.help datamodules.cmu_mocap.CMUMocap       options of a data set
  {train} {verb} -c FILE --print_config                           the value of every option
"""

_EXAMPLES = {
    "fit": (
        "{experiment}",
        "{experiment} --ckpt_path auto",
        "-c ... -c configs/loggers/wandb.yaml --name wide --model.width 96 --trainer.devices 4",
    ),
    "other": (
        "{experiment} --ckpt_path best",
        "-c runs/wide/config.yaml --ckpt_path best",
        "-c runs/wide/config.yaml --data configs/data/cmu_frame.yaml --name cmu --ckpt_path FILE",
    ),
}


def page(args: Sequence[str], train: str) -> str | None:
    """The help that a command line asks for.

    Args:
        args: of `train`.
        train: how it was called, such as `noise2pose train`.

    Returns:
        None if it asks for none, or for all options of a subcommand.
    """
    asked = next((number for number, argument in enumerate(args) if argument in HELP), None)
    if asked is None:
        return None
    verb = next((argument for argument in args if argument in VERBS), None)
    if verb is None:
        return OVERVIEW.format(train=train, experiment=_EXPERIMENT)
    if ALL in args[asked + 1 : asked + 2]:
        return None
    kind = "fit" if verb == "fit" else "other"
    examples = (f"  {train} {verb} {options.format(experiment=_EXPERIMENT)}" for options in _EXAMPLES[kind])
    return _PAGE.format(
        train=train,
        verb=verb,
        needed="" if verb == "fit" else " --ckpt_path WHICH",
        about=_ABOUT[verb],
        checkpoint=_CHECKPOINT[kind],
        training=_TRAINING if verb == "fit" else "",
        examples="\n".join(examples),
    )
