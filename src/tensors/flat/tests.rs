use super::*;

fn layout() -> Arc<Layout> {
    let mut layout = Layout::default();
    layout.push("matrix", &[3, 5], 5);
    layout.push("next", &[2, 5], 5);
    layout.begin_section();
    layout.push("vector", &[7], 1);
    Arc::new(layout)
}

#[test]
fn layout_starts_rows_at_multiples_of_their_length_and_sections_at_multiples_of_4096() {
    let starts: Vec<i64> = layout().segments().iter().map(|own| own.start).collect();
    assert_eq!(starts, [0, 320, 4096]);
    assert_eq!(layout().length(), 8192);
}

#[test]
fn gathered_tensors_are_at_their_places_with_zeros_between_them() -> Result<()> {
    let layout = layout();
    let one = |shape: &[i64]| Tensor::ones(shape, (Kind::BFloat16, Device::Cpu));
    let flat = FlatTensors::gather(&layout, Device::Cpu, |own| {
        (own.name != "next").then(|| one(&own.shape))
    })?;
    assert_eq!(flat.data().kind(), Kind::Float);
    assert_eq!(flat.data().sum(Kind::Float).double_value(&[]), 22.0);
    for (name, sum) in [("matrix", 15.0), ("next", 0.0), ("vector", 7.0)] {
        let own = flat.get(name)?.map(|own| own.sum(Kind::Float).double_value(&[]));
        assert_eq!(own, Some(sum), "{name}");
    }
    Ok(())
}

#[test]
fn gathered_tensor_of_another_shape_is_refused() {
    let wrong = Tensor::zeros([5, 3], (Kind::Float, Device::Cpu));
    let refused = FlatTensors::gather(&layout(), Device::Cpu, |_| Some(&wrong));
    assert!(matches!(refused, Err(crate::Error::Shape { name, .. }) if name == "matrix"));
}

#[test]
fn runs_join_neighbours_of_one_key_and_leave_out_those_without() {
    let runs = layout().runs(|own| (own.name != "vector").then_some(own.shape.len()));
    assert_eq!(runs, [(2, 0..330)]);
    let runs = layout().runs(|own| (own.name != "next").then_some(()));
    assert_eq!(runs, [((), 0..15), ((), 4096..4103)]);
}

#[test]
fn row_norms_of_a_section_whose_first_tensor_begins_later_give_its_norm() -> Result<()> {
    let mut layout = Layout::default();
    layout.push("token", &[3], 1);
    layout.begin_section();
    // Rows of 192 elements begin at multiples of 192: at 4224, not at 4096.
    layout.push("matrix", &[2, 192], 192);
    let layout = Arc::new(layout);
    let ones = |own: &Segment| Some(Tensor::ones(&own.shape[..], (Kind::Float, Device::Cpu)));
    let flat = FlatTensors::gather(&layout, Device::Cpu, ones)?;
    let runs = layout.runs(|own| (own.name == "matrix").then_some(()));
    assert_eq!(runs, [((), 4224..4608)]);
    let norms = flat.row_norms(runs.into_iter().map(|(_, range)| range))?;
    let norm = norms[0].norm().double_value(&[]);
    assert!((norm - 384f64.sqrt()).abs() < 1e-4, "{norm}");
    Ok(())
}

#[test]
fn row_norms_of_millions_of_numbers_give_their_norm_in_f32() -> Result<()> {
    let mut layout = Layout::default();
    layout.push("many", &[5_000_000], 1);
    let layout = Arc::new(layout);
    let numbers = Tensor::full([5_000_000], 0.1, (Kind::Float, Device::Cpu));
    let flat = FlatTensors::gather(&layout, Device::Cpu, |_| Some(&numbers))?;
    let norms = flat.row_norms(flat.whole())?;
    let norm = norms[0].norm().double_value(&[]);
    let expected = f64::from(0.1f32) * 5_000_000f64.sqrt();
    assert!((norm / expected - 1.0).abs() < 1e-5, "got {norm}, expected {expected}");
    Ok(())
}

#[test]
fn blocks_cover_a_range_in_whole_rows() {
    let blocks: Vec<Range<i64>> = blocks(&(10..2_000_010), 1000, Device::Cpu).collect();
    assert!(blocks.len() > 1);
    assert!(blocks.iter().all(|own| (own.end - own.start) % 1000 == 0));
    assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!((blocks[0].start, blocks[blocks.len() - 1].end), (10, 2_000_010));
}
