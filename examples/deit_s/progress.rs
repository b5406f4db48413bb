//! What a person sees of a stage: a bar on a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use once_for_both::search::{Event, Listener, StepMetrics};
use once_for_both::{Error, Result};
use std::io::IsTerminal;
use std::path::Path;

const TEMPLATE: &str = "{prefix:<17} {bar:20} {pos:>5}/{len} {eta:>4} left  {msg}";

#[derive(Clone)]
pub struct Progress {
    name: &'static str,
    bar: ProgressBar,
    dense_macs: f64,
    /// Images of an optimiser step.
    images: i64,
    steps: u64,
    epoch: u64,
    terminal: bool,
}

impl Progress {
    pub fn new(name: &'static str, steps: u64, images: i64, dense_macs: f64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name);
        Self { name, bar, dense_macs, images, steps, epoch: 1, terminal }
    }

    /// Begins, or goes on after so many steps.
    pub fn begin(&mut self, done: u64, steps_per_epoch: u64) {
        self.epoch = steps_per_epoch;
        self.bar.set_position(done);
        self.bar.reset_eta();
        if done > 0 {
            self.say(format!("{}: goes on after step {done}", self.name));
        }
    }

    pub fn at(&self, step: u64) {
        self.bar.set_position(step);
    }

    pub fn refuse(&self, checkpoint: &Path, why: &Error) {
        self.say(format!("  passed over {}: {why}", checkpoint.display()));
    }

    /// The end, with the names of images that could not be decoded.
    pub fn finish(&self, top1: f64, corrupt: &[String]) {
        self.bar.finish_with_message(format!("top-1 {:.1}%", 100.0 * top1));
        if !self.terminal {
            eprintln!("{}: top-1 {:.1}%", self.name, 100.0 * top1);
        }
        for name in corrupt {
            self.say(format!("  not an image, passed over: {name}"));
        }
    }

    fn say(&self, text: String) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    fn step(&self, metrics: &StepMetrics) {
        let StepMetrics { step, loss, macs_expected, step_ms, .. } = metrics;
        let (epoch, epochs) = (step / self.epoch + 1, self.steps.div_ceil(self.epoch));
        let mut text = format!("epoch {epoch}/{epochs}  loss {:.3}", loss.task);
        if loss.one_hot != 0.0 {
            text += &format!("  one-hot {:.1}", loss.one_hot);
        }
        if loss.reconstruction != 0.0 {
            text += &format!("  painting {:.3}", loss.reconstruction);
        }
        let share = 100.0 * macs_expected / self.dense_macs;
        let rate = 1e3 * self.images as f64 / step_ms;
        text += &format!("  MACs {share:.0}%  {rate:.0} images/s");
        if self.terminal {
            self.bar.set_message(text);
        } else {
            let left = self.steps.saturating_sub(*step) as f64 * step_ms / 1e3;
            eprintln!("{} {step}/{}: {text}  {} left", self.name, self.steps, duration(left));
        }
    }
}

/// "1 h 02 min", "3 min", "40 s".
pub fn duration(seconds: f64) -> String {
    let (minutes, seconds) = ((seconds / 60.0) as u64, seconds as u64);
    match (minutes / 60, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {:02} min", minutes % 60),
    }
}

impl Listener for Progress {
    fn on_event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(metrics) => self.step(metrics),
            Event::Pruned(cut) => {
                let units: i64 = cut.units.values().map(|[before, after]| before - after).sum();
                self.say(format!(
                    "  cut after step {}: {units} units of {} dimensions leave, MACs {:.0}%, logits move by {:.1}%",
                    cut.step,
                    cut.units.len(),
                    100.0 * cut.macs / self.dense_macs,
                    100.0 * cut.total_jump / cut.logit_scale,
                ));
            }
            Event::Finished(finished) => self.say(format!(
                "  every size decided after step {} ({} by projection onto the budget)",
                finished.step, finished.projected
            )),
            Event::NonFinite { step, in_a_row, action, .. } => self.say(format!(
                "  step {step}: {in_a_row} steps in a row were not finite, {action:?}"
            )),
            Event::Evaluated { step, top1 } if *step < self.steps => {
                self.say(format!("  after step {step}: top-1 {:.1}%", 100.0 * top1));
            }
            Event::Decided { .. } | Event::Checkpoint { .. } | Event::Evaluated { .. } => {}
        }
        Ok(())
    }
}
