//! Polynomials in the sizes of dimensions, as a cost is written.
//!
//! MACs and parameters of a transformer are sums of products of sizes. One [`Polynomial`] gives the
//! exact cost (f64), the expected cost with gradients (through [`CompiledPolynomial`]), and the terms
//! that projection works on.

use crate::space::{SearchSpace, Size, Sizes};
use crate::transfer::upload;
use crate::{Error, Result};
use std::collections::HashMap;
use std::ops::{Add, AddAssign, Mul};
use tch::{Device, Tensor};

/// What a variable of a polynomial counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Units: heads × channels.
    Units,
    /// Heads.
    Heads,
    /// The branch itself: 1, or 0 once it has been removed ([`Size::REMOVED`]). The parameters of the norm before a
    /// branch are a multiple of it.
    Branch,
}

impl Counted {
    /// Returns the count at a size.
    pub fn of(self, size: Size) -> i64 {
        match self {
            Self::Units => size.units(),
            Self::Heads => size.heads,
            Self::Branch => i64::from(!size.is_removed()),
        }
    }

    /// Place of the count among those of a dimension in a vector of sizes.
    fn place(self) -> i64 {
        match self {
            Self::Units => 0,
            Self::Heads => 1,
            Self::Branch => 2,
        }
    }
}

/// Counts of a dimension in a vector of sizes: units, heads, branch.
pub(super) const COUNTS: i64 = 3;

/// Variable of a polynomial: the units (heads × channels) or the heads of one dimension, or whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeOf {
    /// Name of the dimension.
    pub dimension: String,
    /// What the variable counts.
    pub over: Counted,
}

impl SizeOf {
    /// Returns the value of this variable at a size of its dimension.
    pub fn at(&self, size: Size) -> f64 {
        self.over.of(size) as f64
    }
}

/// Product of a coefficient and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Constant factor.
    pub coefficient: f64,
    /// The sizes, sorted; one that occurs twice is squared.
    pub factors: Vec<SizeOf>,
}

/// Sum of [`Term`]s, built with `+` and `*`.
///
/// ```
/// use once_for_both::cost::Polynomial;
/// use once_for_both::space::Size;
///
/// # fn main() -> once_for_both::Result<()> {
/// // Parameters of a linear layer from `embed` to `hidden`: (embed + 1)·hidden.
/// let params = (Polynomial::units("embed") + 1) * Polynomial::units("hidden");
/// let sizes = [("embed".into(), Size::flat(10)), ("hidden".into(), Size::flat(4))];
/// assert_eq!(params.evaluate(&sizes.into())?, 44.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Polynomial {
    terms: Vec<Term>,
}

impl Polynomial {
    /// Returns the variable "units of this dimension": its width, or heads × channels.
    pub fn units(dimension: &str) -> Self {
        Self::variable(dimension, Counted::Units)
    }

    /// Returns the variable "heads of this dimension".
    pub fn heads(dimension: &str) -> Self {
        Self::variable(dimension, Counted::Heads)
    }

    /// Returns the variable "this branch is there": 1, or 0 once it has been removed.
    pub fn branch(dimension: &str) -> Self {
        Self::variable(dimension, Counted::Branch)
    }

    fn variable(dimension: &str, over: Counted) -> Self {
        let factor = SizeOf { dimension: dimension.into(), over };
        Self { terms: vec![Term { coefficient: 1.0, factors: vec![factor] }] }
    }

    /// Returns the terms; no two have the same sizes.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Returns the value at the given sizes.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension of the polynomial is not in `sizes`.
    pub fn evaluate(&self, sizes: &Sizes) -> Result<f64> {
        self.evaluate_with(|variable| Ok(variable.at(size_in(sizes, &variable.dimension)?)))
    }

    /// Returns the value with every variable given by the function `value`, so that sizes need not be
    /// whole numbers.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn evaluate_with(&self, value: impl Fn(&SizeOf) -> Result<f64>) -> Result<f64> {
        self.terms.iter().try_fold(0.0, |sum, term| {
            let product = term.factors.iter().try_fold(term.coefficient, |product, factor| {
                Ok::<_, Error>(product * value(factor)?)
            })?;
            Ok(sum + product)
        })
    }

    /// Returns the polynomial over the dimensions of `space` alone: sizes of others, taken from `fixed`, are multiplied into
    /// the coefficients.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension is neither in the space nor in `fixed`.
    pub(crate) fn over(&self, space: &SearchSpace, fixed: &Sizes) -> Result<Self> {
        let mut sum = Self::default();
        for term in &self.terms {
            let mut own = Term { coefficient: term.coefficient, factors: Vec::new() };
            for factor in &term.factors {
                match space.dimensions.iter().any(|own| own.name == factor.dimension) {
                    true => own.factors.push(factor.clone()),
                    false => own.coefficient *= factor.at(size_in(fixed, &factor.dimension)?),
                }
            }
            sum += Self { terms: vec![own] };
        }
        Ok(sum)
    }
}

/// Returns the size of a dimension.
///
/// # Errors
/// [`Error::Unknown`] if `sizes` does not have it.
pub(crate) fn size_in(sizes: &Sizes, dimension: &str) -> Result<Size> {
    sizes.get(dimension).copied().ok_or_else(|| Error::unknown("size", dimension, sizes.keys()))
}

impl From<f64> for Polynomial {
    fn from(constant: f64) -> Self {
        Self { terms: vec![Term { coefficient: constant, factors: Vec::new() }] }
    }
}

impl From<i64> for Polynomial {
    fn from(constant: i64) -> Self {
        (constant as f64).into()
    }
}

impl<T: Into<Polynomial>> AddAssign<T> for Polynomial {
    fn add_assign(&mut self, other: T) {
        for term in other.into().terms {
            match self.terms.iter_mut().find(|mine| mine.factors == term.factors) {
                Some(mine) => mine.coefficient += term.coefficient,
                None => self.terms.push(term),
            }
        }
    }
}

impl<T: Into<Polynomial>> Add<T> for Polynomial {
    type Output = Self;

    fn add(mut self, other: T) -> Self {
        self += other;
        self
    }
}

impl<T: Into<Polynomial>> Mul<T> for Polynomial {
    type Output = Self;

    fn mul(self, other: T) -> Self {
        let other = other.into();
        let mut product = Self::default();
        for left in &self.terms {
            for right in &other.terms {
                let mut factors = [left.factors.clone(), right.factors.clone()].concat();
                factors.sort();
                let coefficient = left.coefficient * right.coefficient;
                product += Self { terms: vec![Term { coefficient, factors }] };
            }
        }
        product
    }
}

/// Returns a matrix, `[rows, columns]`, f32, that has in every row one number other than 0: `(column, number)`. Its product
/// with a vector is a choice of entries of the vector.
///
/// The gradient of `index_select` would on CUDA add to an entry that is chosen twice in another order every time.
pub(super) fn choice(rows: &[(i64, f64)], columns: i64, device: Device) -> Result<Tensor> {
    let mut numbers = vec![0.0; rows.len() * columns as usize];
    for (row, (column, number)) in numbers.chunks_mut(columns as usize).zip(rows) {
        row[*column as usize] = *number as f32;
    }
    Ok(upload(&numbers, device)?.f_view([rows.len() as i64, columns])?)
}

/// Polynomial as tensors, for its value and gradient at expected sizes.
///
/// Its variables are the entries of a vector `[units_0, heads_0, branch_0, units_1, …, 1]` over the
/// dimensions of a space. Sizes of dimensions outside the space are multiplied into the
/// coefficients.
#[derive(Debug)]
pub struct CompiledPolynomial {
    /// [`choice`] of the factors of every term from the vector of sizes, `[terms · degree, sizes]`; unused factors are
    /// the last entry, 1.
    factors: Tensor,
    coefficients: Tensor,
    degree: i64,
}

impl CompiledPolynomial {
    /// Compiles `polynomial` for `space`; sizes of other dimensions are taken from `fixed`.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension is neither in the space nor in `fixed`.
    pub fn new(
        polynomial: &Polynomial,
        space: &SearchSpace,
        fixed: &Sizes,
        device: Device,
    ) -> Result<Self> {
        let polynomial = polynomial.over(space, fixed)?;
        let position: HashMap<&str, i64> =
            space.dimensions.iter().zip(0..).map(|(d, at)| (d.name.as_str(), at)).collect();
        let one = COUNTS * space.dimensions.len() as i64;
        let degree =
            polynomial.terms.iter().map(|term| term.factors.len()).max().unwrap_or(0).max(1);
        let (mut factors, mut coefficients) = (Vec::new(), Vec::new());
        for term in &polynomial.terms {
            let start = factors.len();
            factors.extend(
                term.factors
                    .iter()
                    .map(|own| (COUNTS * position[own.dimension.as_str()] + own.over.place(), 1.0)),
            );
            factors.resize(start + degree, (one, 1.0));
            coefficients.push(term.coefficient as f32);
        }
        Ok(Self {
            factors: choice(&factors, one + 1, device)?,
            coefficients: upload(&coefficients, device)?,
            degree: degree as i64,
        })
    }

    /// Returns the value at a vector of sizes, differentiable in them.
    ///
    /// # Shapes
    /// `sizes`: `[3 · dimensions + 1]`, f32, the last entry 1. Result: scalar.
    ///
    /// # Errors
    /// [`Error::Torch`] if the vector has another length.
    pub fn evaluate(&self, sizes: &Tensor) -> Result<Tensor> {
        let factors = self.factors.f_mv(sizes)?.f_view([-1, self.degree])?;
        // Column by column, because the backward pass of `prod` synchronises with the device.
        let mut products = factors.f_select(1, 0)?;
        for column in 1..self.degree {
            products = products.f_mul(&factors.f_select(1, column)?)?;
        }
        Ok(products.f_dot(&self.coefficients)?)
    }
}
