//! What a person sees of a stage: a bar on a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use once_for_both::search::{Event, Listener};
use once_for_both::{Error, Result};
use std::io::IsTerminal;
use std::path::Path;

#[derive(Clone)]
pub struct Progress {
    name: &'static str,
    bar: ProgressBar,
    dense_macs: f64,
    terminal: bool,
}

impl Progress {
    pub fn new(name: &'static str, steps: u64, dense_macs: f64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let template = "{prefix:<22} {bar:24} {pos:>4}/{len} {eta:>4}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name);
        Self { name, bar, dense_macs, terminal }
    }

    pub fn begin(&mut self, done: u64) {
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    pub fn at(&self, step: u64) {
        self.bar.set_position(step);
    }

    pub fn refuse(&self, checkpoint: &Path, why: &Error) {
        self.say(format!("  passed over {}: {why}", checkpoint.display()));
    }

    pub fn finish(&self, top1: f64) {
        self.bar.finish_with_message(format!("top-1 {:.1}%", 100.0 * top1));
        if !self.terminal {
            eprintln!("{}: top-1 {:.1}%", self.name, 100.0 * top1);
        }
    }

    fn say(&self, text: String) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

impl Listener for Progress {
    fn notice(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(m) => {
                let share = 100.0 * m.macs_expected / self.dense_macs;
                let mut text = format!("task {:.3}", m.loss.task);
                if m.loss.one_hot != 0.0 {
                    text += &format!("  one-hot {:.1}", m.loss.one_hot);
                }
                if m.loss.reconstruction != 0.0 {
                    text += &format!("  painting {:.3}", m.loss.reconstruction);
                }
                text += &format!("  MACs {share:.0}%  {:.0} ms/step", m.step_ms);
                self.bar.set_message(text.clone());
                if !self.terminal {
                    eprintln!("{} {:>5}: {text}", self.name, m.step);
                }
            }
            Event::Cut(cut) => {
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
            Event::Guard { step, in_a_row, action, .. } => self.say(format!(
                "  step {step}: {in_a_row} steps in a row were not finite, {action:?}"
            )),
            Event::Decided { .. } | Event::Checkpoint { .. } | Event::Evaluated { .. } => {}
        }
        Ok(())
    }
}
