package android.system

/** Android's, as far as an engine asks for it: keeps what is set. */
object Os {
    val environment = HashMap<String, String>()

    @JvmStatic
    fun setenv(name: String, value: String, overwrite: Boolean) {
        if (overwrite || name !in environment) environment[name] = value
    }
}
