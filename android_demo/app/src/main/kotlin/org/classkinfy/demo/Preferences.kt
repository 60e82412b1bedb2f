package org.classkinfy.demo

import android.annotation.SuppressLint
import android.content.Context
import org.classkinfy.android.Qualification

/** What the app remembers: which way to run was chosen, and what the self-test said of each. */
internal class Preferences(context: Context) : Qualification.Memory {
    private val stored = context.getSharedPreferences("ways", Context.MODE_PRIVATE)

    var wish: String?
        get() = stored.getString(WISH, null)
        set(value) = stored.edit().putString(WISH, value).apply()

    override fun get(key: String): String? = stored.getString(key, null)

    @SuppressLint("ApplySharedPref") // it is on disk before a driver can end the process
    override fun put(key: String, verdict: String) {
        stored.edit().putString(key, verdict).commit()
    }

    private companion object {
        const val WISH = "wish"
    }
}
