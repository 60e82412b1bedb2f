package org.classkinfy.core

/** What the manifest says of a tensor. An [exact] one is the same bytes on every runtime. */
class TensorSpec(val name: String, val dtype: Dtype, val shape: IntArray, val unit: String, val exact: Boolean)
