//! Progress on a terminal: a bar; elsewhere: lines.

use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use once_for_both::pipeline::{Progress, StageStart};
use once_for_both::search::{Event, StepMetrics};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Instant;

const TEMPLATE: &str = "{prefix:<17} {bar:20} {pos:>5}/{len} {eta:>4} left  {msg}";

/// The bar of the current stage.
#[derive(Default)]
pub struct ProgressBar(RefCell<Option<Stage>>);

struct Stage {
    bar: Bar,
    start: StageStart,
    began: Instant,
    terminal: bool,
}

impl ProgressBar {
    /// Shows the progress of a run.
    pub fn show(&self, progress: &Progress<'_>) {
        if let Progress::StageStarted(start) = progress {
            *self.0.borrow_mut() = Some(Stage::new(*start));
        }
        match (progress, &*self.0.borrow()) {
            (Progress::Step(step), Some(stage)) => stage.bar.set_position(*step),
            (Progress::Event(event), Some(stage)) => stage.event(event),
            (Progress::StageFinished { corrupt, .. }, Some(stage)) => {
                stage.bar.finish_with_message(progress.to_string());
                if !stage.terminal {
                    eprintln!("{}: {progress}", stage.start.name);
                }
                for name in *corrupt {
                    stage.say(&format!("  corrupt image skipped: {name}"));
                }
            }
            (Progress::StageStarted(start), Some(stage)) if start.done == 0 && stage.terminal => {}
            _ => eprintln!("{progress}"),
        }
    }
}

impl Stage {
    fn new(start: StageStart) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = Bar::with_draw_target(Some(start.steps), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(start.name);
        bar.set_position(start.done);
        bar.reset_eta();
        Self { bar, start, began: Instant::now(), terminal }
    }

    fn say(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    fn event(&self, event: &Event) {
        let Some(line) = self.start.line(event) else { return };
        match event {
            Event::Step(_) if self.terminal => self.bar.set_message(line),
            Event::Step(StepMetrics { step, .. }) => {
                let StageStart { name, steps, .. } = self.start;
                eprintln!(
                    "{name} step {step}/{steps}: {line}  {} left",
                    duration(self.left(*step))
                );
            }
            _ => self.say(&format!("  {line}")),
        }
    }

    /// Seconds left after step `step`, counted from 0, with the evaluations and checkpoints between the steps.
    fn left(&self, step: u64) -> f64 {
        let done = step + 1 - self.start.done.min(step);
        let left = self.start.steps.saturating_sub(step + 1);
        self.began.elapsed().as_secs_f64() * left as f64 / done as f64
    }
}

/// "1 h 02 min", "3 min", "40 s".
fn duration(seconds: f64) -> String {
    let (minutes, seconds) = ((seconds / 60.0) as u64, seconds as u64);
    match (minutes / 60, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {:02} min", minutes % 60),
    }
}
