;; The product of an int8 matrix and a float32 vector, the only loop that takes time: a token of the
;; shipped model is 8.7 million multiplications, here 16 in each round of the inner loop. It is 8
;; times as fast as the same loop in JavaScript (model.js), which stands in where there is no SIMD.
;;
;; kernel.wasm is this file as assembled by wat2wasm 1.0.37 of the npm package wabt; a slow test
;; assembles it again and compares.
(module
  (import "page" "memory" (memory 1))
  ;; y[r] = sum over k of w[r, k] * x[k]. All are addresses in the memory; `columns`, the bytes of
  ;; a row of w, is a multiple of 16, and x has as many numbers.
  (func (export "product")
    (param $w i32) (param $x i32) (param $y i32) (param $rows i32) (param $columns i32)
    (local $at i32) (local $end i32) (local $bytes v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)  ;; four partial sums of each
    (loop $row
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (v128.const i32x4 0 0 0 0))
      (local.set $c (v128.const i32x4 0 0 0 0))
      (local.set $d (v128.const i32x4 0 0 0 0))
      (local.set $at (local.get $x))
      (local.set $end (i32.add (local.get $w) (local.get $columns)))
      (loop $column
        (local.set $bytes (v128.load8x8_s (local.get $w)))  ;; 8 whole numbers, as int16
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul
          (v128.load (local.get $at))
          (f32x4.convert_i32x4_s (i32x4.extend_low_i16x8_s (local.get $bytes))))))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul
          (v128.load offset=16 (local.get $at))
          (f32x4.convert_i32x4_s (i32x4.extend_high_i16x8_s (local.get $bytes))))))
        (local.set $bytes (v128.load8x8_s offset=8 (local.get $w)))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul
          (v128.load offset=32 (local.get $at))
          (f32x4.convert_i32x4_s (i32x4.extend_low_i16x8_s (local.get $bytes))))))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul
          (v128.load offset=48 (local.get $at))
          (f32x4.convert_i32x4_s (i32x4.extend_high_i16x8_s (local.get $bytes))))))
        (local.set $at (i32.add (local.get $at) (i32.const 64)))
        (local.set $w (i32.add (local.get $w) (i32.const 16)))
        (br_if $column (i32.lt_u (local.get $w) (local.get $end))))
      (local.set $a (f32x4.add
        (f32x4.add (local.get $a) (local.get $b)) (f32x4.add (local.get $c) (local.get $d))))
      (f32.store (local.get $y) (f32.add
        (f32.add (f32x4.extract_lane 0 (local.get $a)) (f32x4.extract_lane 1 (local.get $a)))
        (f32.add (f32x4.extract_lane 2 (local.get $a)) (f32x4.extract_lane 3 (local.get $a)))))
      (local.set $y (i32.add (local.get $y) (i32.const 4)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br_if $row (local.get $rows)))))
