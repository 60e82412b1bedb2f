package org.classkinfy.core

/** Stage after stage, each answer as it comes, or one graph. */
enum class Form(@JvmField val label: String) {
    STAGED("staged"),
    FUSED("fused"),
}

/**
 * How to open a bundle. The defaults are what an app wants.
 *
 * @property runtime `onnxruntime` or `litert`; null takes the first on the class path that the bundle
 *   holds a format for
 * @property precision as the manifest names it; null takes int8 where the bundle holds it, else fp32
 * @property threads within an operator
 * @property trustedKeys public keys (base64 of SubjectPublicKeyInfo, or a `.pub.pem`'s text), one of
 *   which must have signed the bundle; without any it need not be signed
 * @property accelerator null for the CPU; run [SelfTest] before you believe another one
 */
data class Options @JvmOverloads constructor(
    val runtime: String? = null,
    val precision: String? = null,
    val form: Form = Form.STAGED,
    val threads: Int = 1,
    val trustedKeys: List<String> = emptyList(),
    val accelerator: String? = null,
) {
    init {
        require(threads >= 1) { "threads is $threads; give 1 or more" }
    }
}
